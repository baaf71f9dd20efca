set parts [lsort -decreasing {K O}]
puts [join $parts ""]
