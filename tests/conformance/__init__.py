"""Every normative statement, where the code obeys it and which tests prove it.

The tables say what there is: `statements.tsv` (numbered statements of both versions, in our own
words), `rules.tsv` (unnumbered ones), `tables.py` (what becomes of each), `faults.py` (what others
got wrong). Marks on tests tie the tests to them:

    @pytest.mark.spec("5.0 MQTT-4.3.3-6")
    @pytest.mark.spec("3.1.1 MQTT-4.3.3-1 (f)")  # one duty of a statement that bundles several
    @pytest.mark.spec("NN-8.4")
    @pytest.mark.fault(11)

`python -m tests.conformance` says what lacks a test, `--write` writes the pages in
docs/reference that are made from all this.
"""
