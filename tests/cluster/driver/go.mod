module kdev.test/cluster/driver

go 1.26

require golang.org/x/sys v0.31.0

require golang.org/x/net v0.38.0
