module kdev.test/cluster/workload

go 1.26
