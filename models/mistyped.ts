/**
 * The word that somebody meant who mistyped one: the first of those with the fewest letters wrong, missing,
 * too many or changed places; one in words of four and five letters, two in longer ones.
 *
 * @param words those that may be meant, the likeliest first
 * @returns null when none is near enough
 */
export function mostAlike(typed: string, words: string[]): string | null {
  const allowed = typed.length < 4 ? 0 : typed.length < 6 ? 1 : 2;
  let best: string | null = null, fewest = allowed + 1;
  for (const word of words) {
    // What is being typed may be the beginning of a longer word.
    const distance = Math.min(
      mistakes(typed, word),
      word.length > typed.length ? mistakes(typed, word.slice(0, typed.length)) + 0.5 : Infinity,
    );
    if (distance < fewest) [best, fewest] = [word, distance];
  }
  return best;
}

/** Optimal string alignment: Levenshtein's distance with neighbours that changed places. */
function mistakes(a: string, b: string): number {
  let before: number[] = [], last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      row[j] = Math.min(
        last[j] + 1,
        row[j - 1] + 1,
        last[j - 1] + (a[i - 1] === b[j - 1] ? 0 : 1),
      );
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        row[j] = Math.min(row[j], before[j - 2] + 1);
      }
    }
    [before, last] = [last, row];
  }
  return last[b.length];
}
