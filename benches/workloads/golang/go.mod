module outlive/benches

go 1.19
