"""Runtimes that compute a localizer's passes, PyTorch or OpenVINO on a CPU, and the threads that run them."""
