"""What plexburst needs of Scaleway, on the official SDK.

``client`` wraps the SDK once (time limits, retries, errors as sentences); ``naming`` is our tags and names; ``offers``
chooses an instance type; ``servers`` makes and removes the machines of a run; ``hosts`` turns a server into an Ansible
host.
"""
