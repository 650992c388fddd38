"""Control groups (version 2): where a container's cgroup is, its life, owner, limits and device filter.

`paths`, `devices`, `mount` and `resources` are pure but for what is named probe_*; `manager` makes and removes cgroups,
`controllers` enables what they need, `apply` writes limits, `bpf` loads the device filter. cgroup v1 is never touched:
on a hybrid host the v2 hierarchy is used alone.
"""
