/** Certificates of an authority of the tests' own, made by openssl. */

export interface Certificates {
  /** PEM, for who is to trust the server. */
  ca: string;
  cert: string;
  key: string;
}

/** A server's certificate for these names. */
export async function makeCertificates(names: string[]): Promise<Certificates> {
  const directory = await Deno.makeTempDir({ prefix: "mooring-tls-" });
  const path = (name: string) => `${directory}/${name}`;
  const key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  try {
    await openssl("req", "-x509", ...key, "-days", "2", "-subj", "/CN=Tests of Mooring")(
      ["-keyout", path("ca.key"), "-out", path("ca.pem")],
    );
    await openssl("req", ...key, "-subj", `/CN=${names[0]}`)(
      ["-keyout", path("server.key"), "-out", path("server.csr")],
    );
    await Deno.writeTextFile(
      path("names"),
      `subjectAltName=${names.map((name) => `DNS:${name}`).join(",")}\nbasicConstraints=CA:FALSE\n`,
    );
    await openssl("x509", "-req", "-days", "2", "-CAcreateserial")([
      ...["-in", path("server.csr"), "-CA", path("ca.pem"), "-CAkey", path("ca.key")],
      ...["-extfile", path("names"), "-out", path("server.pem")],
    ]);
    const [ca, cert, serverKey] = await Promise.all(
      ["ca.pem", "server.pem", "server.key"].map((name) => Deno.readTextFile(path(name))),
    );
    return { ca, cert, key: serverKey };
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}

function openssl(...first: string[]) {
  return async (rest: string[]) => {
    const { success, stderr } = await new Deno.Command("openssl", {
      args: [...first, ...rest],
      stdout: "null",
      stderr: "piped",
    }).output();
    if (!success) throw new Error(`openssl failed: ${new TextDecoder().decode(stderr)}`);
  };
}
