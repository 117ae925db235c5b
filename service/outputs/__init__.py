"""Pictures that fit no memory: tiles, kept in an object store and put together as files. Knows nothing of queues."""
