/** The code of now, or of another time, as an authenticator app makes it (RFC 6238). */
export async function totp(key: string, atMs = Date.now()): Promise<string> {
  const bits = [...key].map((each) =>
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".indexOf(each).toString(2).padStart(5, "0")
  ).join("");
  const bytes = Uint8Array.from(bits.match(/.{8}/g)!, (each) => parseInt(each, 2));
  const counter = new DataView(new ArrayBuffer(8));
  counter.setBigUint64(0, BigInt(Math.floor(atMs / 30_000)));
  const hmac = { name: "HMAC", hash: "SHA-1" };
  const secret = await crypto.subtle.importKey("raw", bytes, hmac, false, ["sign"]);
  const mac = new DataView(await crypto.subtle.sign("HMAC", secret, counter.buffer));
  const code = mac.getUint32(mac.getUint8(19) & 15) & 0x7fffffff;
  return String(code % 1_000_000).padStart(6, "0");
}
