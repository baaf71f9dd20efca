local answer <const> = table.concat({ "O", "K" })
print(answer)
