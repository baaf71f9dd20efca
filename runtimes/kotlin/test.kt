data class Part(val place: Int, val text: String)

fun main() {
    val parts = listOf(Part(2, "K"), Part(1, "O"))
    println(parts.sortedBy { it.place }.joinToString("") { it.text })
}
