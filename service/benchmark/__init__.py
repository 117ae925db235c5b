"""``creps benchmark serve``: performance of the whole service."""
