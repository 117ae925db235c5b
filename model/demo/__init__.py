"""The bundled demo network, and how its training data is composed."""
