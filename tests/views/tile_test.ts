import assert from "node:assert/strict";
import builtin from "../../models/catalog_builtin.json" with { type: "json" };
import css from "../../static/app.css" with { type: "text" };
import { hueOf, HUES, lettersOf, Tile } from "../../views/tile.tsx";

Deno.test("lettersOf takes two letters of a title, whatever is in it", () => {
  for (
    const [title, letters] of [
      ["Notion", "No"],
      ["Brave Search", "BS"],
      ["ökonom", "Ök"],
      ["e\u0301a", "E\u0301a"],
      ["Z\u0301\u0302\u0303\u0304\u0305x", "Z\u0301\u0302x"],
      ["世界 地図", "世地"],
      ["𝔘nicode", "𝔘n"],
      ["7", "7"],
      ["", "·"],
      ["\u202e<>\u200b😀", "·"],
    ]
  ) assert.equal(lettersOf(title), letters, title);
});

Deno.test("a title has one hue, and the catalog's titles use all of them", () => {
  for (const title of ["", "GitHub", "😀"]) {
    assert.equal(hueOf(title), hueOf(title));
    assert.ok(hueOf(title) >= 0 && hueOf(title) < HUES);
  }
  assert.equal(new Set(builtin.map(({ title }) => hueOf(title))).size, HUES);
});

Deno.test("Tile escapes what it shows, has no style of its own and says nothing to a screen reader", () => {
  const html = String(Tile({ title: "<b> &" }));
  assert.match(html, /^<span class="tile hue-\d+" aria-hidden="true">[^<&]+<\/span>$/);
});

Deno.test("each hue's letters stand out from their ground, in the light and in the dark", () => {
  const rule = css.match(/\.tile \{[^}]*\}/)![0];
  const grounds = colours(rule, "background"), letters = colours(rule, "color");
  const hues = [...css.matchAll(/\.hue-(\d+) \{\s*--hue: (\d+);/g)];
  assert.equal(hues.length, HUES);
  for (const [, , hue] of hues) {
    for (const scheme of [0, 1]) {
      const ratio = contrast(
        luminance(Number(hue), ...grounds[scheme]),
        luminance(Number(hue), ...letters[scheme]),
      );
      // WCAG 2.2, 1.4.6 (AAA): 7 to 1.
      assert.ok(ratio >= 7, `hue ${hue}, ${["light", "dark"][scheme]}: ${ratio.toFixed(2)}`);
    }
  }
});

/** Saturation and lightness of a property's `light-dark(hsl(), hsl())`, in per cent. */
function colours(rule: string, property: string): [number, number][] {
  const [, value] = rule.match(new RegExp(`[\\s;]${property}: ([^;]+);`))!;
  return [...value.matchAll(/hsl\(var\(--hue\) (\d+)% (\d+)%\)/g)]
    .map(([, saturation, lightness]) => [Number(saturation), Number(lightness)]);
}

/** Relative luminance, as WCAG 2 has it. */
function luminance(hue: number, saturation: number, lightness: number): number {
  const s = saturation / 100, l = lightness / 100;
  const channel = (n: number) => {
    const k = (n + hue / 30) % 12;
    const value = l - s * Math.min(l, 1 - l) * Math.max(-1, Math.min(k - 3, 9 - k, 1));
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  };
  return 0.2126 * channel(0) + 0.7152 * channel(8) + 0.0722 * channel(4);
}

function contrast(a: number, b: number): number {
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}
