import assert from "node:assert/strict";
import { compareVersions, isPrerelease } from "../../models/versions.ts";

Deno.test("compareVersions tells the newer of what is SemVer, or numbers and dots", () => {
  const rising = [
    ["1.2.3", "1.10.0"],
    ["1.0.0-beta.2", "1.0.0-beta.10"],
    ["1.0.0-rc.1", "1.0.0"],
    ["1.9.9", "2.0.0-alpha"],
    ["2025.9.25", "2025.11.25"],
    ["0.6", "0.6.2"],
    ["0.6", "0.10"],
    ["2025.04.05", "2025.4.6"],
    ["1.2.3.4", "1.2.3.10"],
    ["v1.2.3", "v1.2.4"],
  ];
  for (const [one, other] of rising) {
    assert.equal(compareVersions(one, other), -1, `${one} < ${other}`);
    assert.equal(compareVersions(other, one), 1, `${other} > ${one}`);
    assert.equal(compareVersions(one, one), 0);
  }
  assert.equal(compareVersions("1.2", "1.2.0"), 0);
  assert.equal(compareVersions("1.0.0+one", "1.0.0+two"), 0);
});

Deno.test("compareVersions says nothing of what it cannot tell", () => {
  const pairs = [
    ["latest", "1.0.0"],
    ["1.0rc1", "1.0"],
    ["7a1b2c3d4e5f", "123456789012"],
    ["", "1.0.0"],
    ["sha256:abc", "sha256:abd"],
    ["1.0.post1", "1.0"],
    ["99999999999999999999.1", "1.0"],
  ];
  for (const [one, other] of pairs) {
    assert.equal(compareVersions(one, other), null, `${one}, ${other}`);
    assert.equal(compareVersions(other, one), null, `${other}, ${one}`);
  }
});

Deno.test("isPrerelease is of SemVer alone", () => {
  assert.equal(isPrerelease("2.0.0-alpha.1"), true);
  assert.equal(isPrerelease("2.0.0"), false);
  assert.equal(isPrerelease("latest"), false);
});
