"""Adversarial losses, and the penalties on gradients."""
