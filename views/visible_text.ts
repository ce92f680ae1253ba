/**
 * Untrusted text with what a reader would not see made visible: control characters (but tab and line
 * feed), bidirectional controls, zero-width and tag characters as `[U+202E]`. They hide instructions
 * from people that models still read (Trojan Source, CVE-2021-42574).
 */
export function visibleText(text: string): string {
  return text.replace(
    // deno-lint-ignore no-control-regex
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffb]|[\u{e0000}-\u{e0fff}]/gu,
    (char) => `[U+${char.codePointAt(0)!.toString(16).toUpperCase().padStart(4, "0")}]`,
  );
}
