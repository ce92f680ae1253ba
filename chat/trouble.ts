/** Why a turn cannot go on, in words for the person, who can mend it or try again. */
export class Trouble extends Error {
  override name = "Trouble";
}
