"""doctor: what of ocirt's features this host and this user can do, each found out by doing it, and what would help.

Guarantees: nothing is changed, and nothing is left: what has to be tried is tried in processes and namespaces that end
with the trial, and the one cgroup that is made for it is removed. A check reads the machine's files through a System,
tries through Trials, and judges; both can be others in tests.
"""
