/** DTMA's own log on standard error: JSON lines for machines, or readable text. */

export type Level = "info" | "warning" | "error";
export type Log = (level: Level, message: string) => void;

export function createLog(
  format: "json" | "text",
  write: (line: string) => void = (line) => console.error(line),
): Log {
  return (level, message) => {
    const time = new Date().toISOString();
    if (format === "json") write(JSON.stringify({ time, level, from: "dtma", message }));
    else {
      // A message may quote what a server or an app said: on one line, it forges no other.
      // deno-lint-ignore no-control-regex
      const line = message.replace(/[\u0000-\u001f\u007f-\u009f]+/g, " ");
      write(
        `${time.slice(11, 19)} ${level === "info" ? "" : level.toUpperCase() + " "}dtma: ${line}`,
      );
    }
  };
}
