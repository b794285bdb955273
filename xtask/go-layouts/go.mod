module outlive/go-layouts

go 1.24
