BEGIN {
    parts["b"] = "K"; parts["a"] = "O"
    count = asorti(parts, order)
    for (i = 1; i <= count; i++) printf "%s", parts[order[i]]
    print ""
}
