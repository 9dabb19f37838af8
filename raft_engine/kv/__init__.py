"""The bundled key-value state machine."""
