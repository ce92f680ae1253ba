/** How many hues static/app.css has for tiles. */
export const HUES = 12;

/**
 * An entry's icon, made from its title, so that none has to be fetched from anywhere: two letters on one
 * of {@link HUES} grounds, the same ones for the same title. It says nothing that the title beside it
 * does not, so a screen reader passes it by.
 */
export function Tile({ title }: { title: string }) {
  return <span class={`tile hue-${hueOf(title)}`} aria-hidden="true">{lettersOf(title)}</span>;
}

/** The letters that begin the first two words, or the first two of one word; a dot where there are none. */
export function lettersOf(title: string): string {
  const words = (title.match(/(?:[\p{L}\p{N}]\p{M}*)+/gu) ?? [])
    // A letter with its accents, but not with a pile of them.
    .map((word) => word.match(/[\p{L}\p{N}]\p{M}{0,2}/gu)!);
  if (words.length === 0) return "·";
  const [first, second] = words;
  const [one, two = ""] = second ? [first[0], second[0]] : first;
  return one.toLocaleUpperCase("en") + two;
}

/** FNV-1a over the title's characters: near titles get different hues. */
export function hueOf(title: string): number {
  let hash = 0x811c9dc5;
  for (const char of title) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
  return (hash >>> 0) % HUES;
}
