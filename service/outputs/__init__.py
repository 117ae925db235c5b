"""Pictures that fit no memory: made of tiles, kept in an object store, put together as files. Knows nothing of queues."""
