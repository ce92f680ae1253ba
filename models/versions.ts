/** Which of two versions is the newer one, where that can be told from how they are written. */
// @ts-types="@types/semver"
import semver from "semver";

/**
 * Compares versions: by SemVer 2.0.0 where both are written so, else by their numbers where both are
 * nothing but numbers between dots (`0.6`, `2025.04.05`, `1.2.3.4`).
 *
 * @returns below 0: `one` is older; 0: they are the same; null: it cannot be told from the text
 */
export function compareVersions(one: string, other: string): number | null {
  if (one === other) return 0;
  const [first, second] = [semver.parse(one), semver.parse(other)];
  if (first && second) return semver.compare(first, second);
  const [a, b] = [numbersOf(one), numbersOf(other)];
  if (!a || !b) return null;
  for (let place = 0; place < Math.max(a.length, b.length); place++) {
    const difference = (a[place] ?? 0) - (b[place] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

/** Of `1.2.3-beta.1` and its like; what is no SemVer says nothing of it. */
export function isPrerelease(version: string): boolean {
  return (semver.parse(version)?.prerelease.length ?? 0) > 0;
}

/** Without a dot it may be the beginning of a commit's hash that happens to have no letter. */
function numbersOf(version: string): number[] | null {
  return /^v?\d{1,9}(\.\d{1,9}){1,5}$/.test(version)
    ? version.replace(/^v/, "").split(".").map(Number)
    : null;
}
