/** Why the server did not do what was asked. `status` 0: it did not answer at all. */
export class Refusal extends Error {
  override readonly name = "Refusal";

  constructor(
    message: string,
    readonly status: number,
    readonly field: string | null = null,
    readonly retryAfter: number | null = null,
  ) {
    super(message);
  }

  get away(): boolean {
    return this.status === 0;
  }

  get unknownKey(): boolean {
    return this.status === 401;
  }
}

/** What an answer that is no success says, in the shape of /v1. */
export function refusal(status: number, body: unknown, headers?: Headers): Refusal {
  const told = isRecord(body) && isRecord(body["error"]) ? body["error"] : {};
  const message = typeof told["message"] === "string" ? told["message"] : `HTTP ${status}`;
  const wait = Number(headers?.get("Retry-After") ?? Number.NaN);
  return new Refusal(
    message,
    status,
    typeof told["param"] === "string" ? told["param"] : null,
    Number.isNaN(wait) ? null : wait,
  );
}

/** The message of whatever was thrown. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
