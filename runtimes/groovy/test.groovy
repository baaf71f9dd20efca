def parts = [[place: 2, text: 'K'], [place: 1, text: 'O']]
println parts.sort { it.place }.collect { it.text }.join('')
