"""Jobs: orders under way. What is done stands in the object store, who does what now in Redis."""
