"""How fast the whole service is, beside its parts called directly: ``creps benchmark serve``."""
