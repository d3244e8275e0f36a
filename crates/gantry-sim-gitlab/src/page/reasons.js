// Why a job failed, in words, and the line of its log that shows it.

const WORDS = {
  script_failure: "A command of the script failed",
  runner_system_failure: "The runner or its cluster failed, not the script",
  runner_configuration_error: "The runner's configuration does not allow what the job asks for",
  runner_external_dependency_failure: "Something that the runner needs from outside failed",
  runner_interrupted: "The runner was interrupted",
  runner_unsupported: "The runner cannot do what the job asks for",
  runner_provisioning_timeout: "The runner took the job and was not heard of again",
  image_pull_failure: "The image could not be pulled",
  job_execution_timeout: "The job ran longer than its timeout",
  server_timeout_running: "The job ran longer than its timeout",
  missing_dependency_failure: "Artifacts that the job needs are not there",
  downstream_pipeline_creation_failed: "The pipeline that the job starts could not be made",
  stuck_pending_no_matching_runners: "No runner has the tags that the job asks for",
  stuck_pending_with_matching_runners: "No runner took the job in time",
  no_updates_running: "Nothing was heard of the job for too long",
  data_integrity_failure: "What was stored of the job does not fit together",
};

/** With what a shell ends that has not found a command. */
const NOT_FOUND = 127;

/** One sentence. */
export function sentence(job) {
  if (job.status !== "failed") return null;
  if (job.failure_reason === "script_failure" && job.exit_code === NOT_FOUND) return `A command was not found (exit code ${NOT_FOUND}).`;
  const words = WORDS[job.failure_reason] ?? (job.failure_reason ? job.failure_reason.replaceAll("_", " ") : "The job failed");
  const code = job.exit_code !== null && job.exit_code !== undefined ? ` (exit code ${job.exit_code})` : "";
  return `${words}${code}.${job.note ? ` ${job.note}.` : ""}`;
}

/** What tools write in lines that say what is wrong. */
const TELLING = /\b(error|failed|failure|fatal|panicked|exception|traceback|not found|no such file|denied|cannot|undefined)\b/i;

/**
 * The line of a script's end that says most: of the last lines that the script wrote, the last one that speaks of an
 * error, else the very last. `lines` are `{ number, text, section }` in order.
 */
export function failingLine(lines) {
  const own = lines.filter((line) => /^(step_|build_)?script|^step_/.test(line.section ?? "") && line.text.trim() !== "");
  const last = own.slice(-40);
  return (last.findLast((line) => TELLING.test(line.text)) ?? last.at(-1))?.number ?? null;
}
