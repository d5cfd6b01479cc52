"""The two-Lambda way: a webhook function and a reply function, as a team would deploy them.

Clients are built once and stay warm. The runner hands an event to a function as Lambda's own
runtime does, one at a time; what AWS runs itself, the gateway and the poller of the queue, is not
measured.
"""
