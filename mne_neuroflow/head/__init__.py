"""The head: surfaces, lead fields, contacts and the Gaussian spatial posterior.

This room knows anatomy and physics, in numpy; it never knows torch, nor the flow.
"""
