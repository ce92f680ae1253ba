/** Structured logs: JSON lines for machines or readable text, to standard error. */

type Fields = Record<string, unknown>;

export interface Log {
  info(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
}

/**
 * @param format `json` for one object a line, `text` for people
 * @param write where a finished line goes
 */
export function createLog(
  format: "json" | "text",
  write: (line: string) => void = (line) => console.error(line),
): Log {
  const at = (level: string) => (message: string, fields: Fields = {}) => {
    const time = new Date().toISOString();
    write(
      format === "json"
        ? JSON.stringify({ time, level, message, ...fields })
        : `${time.slice(11, 19)} ${level === "info" ? "" : level.toUpperCase() + " "}${message}${
          Object.entries(fields).map(([name, value]) => ` ${name}=${asText(value)}`).join("")
        }`,
    );
  };
  return { info: at("info"), warn: at("warning"), error: at("error") };
}

/** What is worth logging of something thrown: its name and message, and where it came from. */
export function errorFields(error: unknown): Fields {
  if (!(error instanceof Error)) return { error: String(error) };
  return { error: `${error.name}: ${error.message}`, at: error.stack?.split("\n")[1]?.trim() };
}

function asText(value: unknown): string {
  // JSON quotes what could forge a line of its own.
  return typeof value === "string" && /^[\w.:/@-]*$/.test(value)
    ? value
    : JSON.stringify(value) ?? "";
}
