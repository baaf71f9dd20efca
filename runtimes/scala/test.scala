case class Part(place: Int, text: String)

object SelfTest extends App {
  val parts = List(Part(2, "K"), Part(1, "O"))
  println(parts.sortBy(_.place).map(_.text).mkString)
}
