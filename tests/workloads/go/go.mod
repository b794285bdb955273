module outlive/workloads

go 1.19
