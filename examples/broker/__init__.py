"""A small MQTT broker, as a model of how a host drives `mqtt_sessions`.

    python -m examples.broker

`host` drives the store: events in, actions out, one timer. `storage` has what an action relies on
stored before it goes out, so that nothing that was promised is lost. `connection` is one client's
TCP connection: bytes to events, actions to bytes; `broker` has all of them. `configuration` reads
the options, `authorization` judges topics, `complaints` tells what goes wrong, `watch` shows the
sessions. What a session is, none of them knows.
"""
