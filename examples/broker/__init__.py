"""A small MQTT broker, as a model of how a host drives `mqtt_sessions`.

    python -m examples.broker

`broker` drives the store: events in, actions out, one timer. `connection` is one client's TCP
connection: bytes to events, actions to bytes. `configuration` reads the options, `authorization`
judges topics, `complaints` tells what goes wrong, `watch` shows the sessions. What a session is,
none of them knows.
"""
