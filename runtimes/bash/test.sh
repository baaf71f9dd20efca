answer=(O K)
printf '%s%s\n' "${answer[@]}"
