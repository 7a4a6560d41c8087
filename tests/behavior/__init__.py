"""What the library does, told as scenarios through its public API."""
