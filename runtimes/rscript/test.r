parts <- c(second = "K", first = "O")
cat(paste(parts[order(names(parts))], collapse = ""), "\n", sep = "")
