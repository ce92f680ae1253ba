import assert from "node:assert/strict";
import { LogTail } from "../../dtma/log_tail.ts";

function logOf(...secrets: string[]): LogTail {
  const log = new LogTail(() => {});
  log.maskValues(secrets);
  return log;
}

Deno.test("LogTail keeps the last 100 lines of at most 2000 characters", () => {
  const log = logOf();
  for (let line = 1; line <= 250; line++) log.add(`line ${line}`);
  assert.equal(log.lines.length, 100);
  assert.equal(log.lines[99], "line 250");
  log.add("x".repeat(5000));
  assert.equal(log.lines[99].length, 2000);
});

Deno.test("LogTail shows control, bidirectional and zero-width characters", () => {
  const log = logOf();
  log.add("\x1b[31mred\x00\x7f \u202egnp.exe\u200b\ttab\r");
  assert.equal(log.lines[0], "␛[31mred␀\\u{007f} \\u{202e}gnp.exe\\u{200b}  tab");
});

Deno.test("LogTail masks secrets, whatever form they are in", () => {
  const log = logOf("pa$$ word/1", "ab", "-----BEGIN KEY-----\nTWluZQ\n-----END KEY-----", "");
  log.add(`plain pa$$ word/1, url ${encodeURIComponent("pa$$ word/1")}, ab but not about`);
  log.add("TWluZQ");
  assert.deepEqual(log.lines, ["plain ••••, url ••••, •••• but not about", "••••"]);
  assert.equal(logOf('say "hi"').clean(JSON.stringify({ a: 'say "hi"' })), '{"a":"••••"}');
});

Deno.test("LogTail masks a secret that the cut of a long line would halve", () => {
  const secret = "s".repeat(300);
  const log = logOf(secret);
  log.add("x".repeat(1900) + secret + "tail");
  assert.ok(!log.lines[0].includes("ss"), log.lines[0].slice(-50));
});

Deno.test("LogTail.follow puts lines together across chunks, and bounds one that never ends", async () => {
  const encoder = new TextEncoder();
  const log = logOf("topsecret");
  await log.follow(ReadableStream.from([
    encoder.encode("one\ntop"),
    encoder.encode("secret two\r\n\xc3"),
    new Uint8Array([0xff, 0x0a]),
    ...Array.from({ length: 50 }, () => encoder.encode("y".repeat(4000))),
    encoder.encode("\nlast"),
  ]));
  assert.equal(log.lines[0], "one");
  assert.equal(log.lines[1], "•••• two");
  assert.equal(log.lines[3].length, 2000);
  assert.equal(log.lines[4], "last");
});
