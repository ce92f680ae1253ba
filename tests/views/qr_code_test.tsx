import assert from "node:assert/strict";
import decodeQR from "npm:qr@0.7.0/decode.js";
import { QrCode } from "../../views/qr_code.tsx";

/** Pixels of one module in the picture that is read. */
const SCALE = 4;

Deno.test("QrCode draws what a reader reads, dark on light with its margin", () => {
  const text = "otpauth://totp/Mooring:bea%40example.com?secret=JBSWY3DPEHPK3PXP&issuer=Mooring";
  const svg = String(<QrCode text={text} label="The key" />);
  const size = Number(/viewBox="0 0 (\d+) \1"/.exec(svg)![1]);
  const width = size * SCALE, data = new Uint8Array(width * width * 4).fill(255);
  const dark = [...svg.matchAll(/M(\d+) (\d+)h1v1h-1z/g)].map(([, x, y]) => [Number(x), Number(y)]);
  for (const [x, y] of dark) {
    assert.ok(Math.min(x, y) >= 4 && Math.max(x, y) < size - 4, "the margin is empty");
    for (let row = y * SCALE; row < (y + 1) * SCALE; row++) {
      for (let column = x * SCALE; column < (x + 1) * SCALE; column++) {
        data.fill(0, (row * width + column) * 4, (row * width + column) * 4 + 3);
      }
    }
  }
  assert.equal(decodeQR({ width, height: width, data }), text);
  assert.match(svg, /role="img" aria-label="The key"/);
});
