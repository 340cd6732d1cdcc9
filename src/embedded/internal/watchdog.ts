/**
 * The process between this one and the server: it outlives us by as long as it takes to stop the server and to remove
 * what was temporary, however we ended. SIGKILL and a crash of Node included: it reads a pipe that the system closes.
 *
 * Protocol. It prints `work <directory>` (made by itself, so that there is no moment at which it exists unguarded) and
 * `pid <server>`, once more after each restart. A line on its input is the signal to restart the server with (INT or
 * QUIT); the end of its input stops the server with a fast shutdown.
 */

export interface Watched {
  /** Where the working directory goes: the sockets and, with `template`, the data. */
  readonly tmpDir: string
  /** A data directory to clone and to remove at the end. */
  readonly template: string | undefined
  /** The data directory to run when there is no template. */
  readonly dataDir: string | undefined
  readonly bin: string
  /** Whether the server listens on a socket in the working directory. */
  readonly socket: boolean
  readonly settings: ReadonlyArray<readonly [name: string, value: string]>
}

export const command = (platform: string, watched: Watched): readonly [string, ReadonlyArray<string>] => {
  const { bin, dataDir = "", socket, template = "", tmpDir } = watched
  const settings = watched.settings.map(([name, value]) => `${name}=${value}`)
  return platform === "win32"
    ? [process.execPath, ["-e", nodeScript, tmpDir, template, dataDir, bin, ...settings]]
    : [
        "/bin/sh",
        ["-c", shellScript, "shigoto-postgres", tmpDir, template, dataDir, bin, socket ? "yes" : "", ...settings]
      ]
}

// internal

/**
 * `kill` is repeated because a server that has only just been forked still ignores SIGINT (the shell gives that to
 * background jobs). PIPE is ignored because the parent may be gone before it is told anything. A shutdown that takes longer than 30 s becomes an immediate one; the next start then recovers.
 */
const shellScript = `
trap '' HUP INT TERM PIPE
umask 077
exec 3<&0 </dev/null
tmp=$1 template=$2 data=$3 bin=$4 socket=$5
shift 5
for setting do
  shift
  set -- "$@" -c "$setting"
done
work=$(mktemp -d "$tmp/shigoto-pg-XXXXXX") || exit 1
echo "work $work"
[ -z "$socket" ] || set -- "$@" -k "$work"
code=1
if [ -n "$template" ]; then
  data=$work/data
  cp -Rp --reflink=auto "$template" "$data" 2>/dev/null || {
    rm -rf "$data"
    cp -Rp "$template" "$data" || data=
  }
fi
while [ -n "$data" ]; do
  "$bin/postgres" -D "$data" "$@" 3<&- &
  server=$!
  echo "pid $server"
  (
    if read -r signal <&3; then
      : >"$work/restart"
      kill -"$signal" $server
    else
      signal=INT seconds=0
      while kill -$signal $server; do
        seconds=$((seconds + 1))
        [ $seconds -lt 30 ] || signal=QUIT
        sleep 1
      done
    fi
  ) >/dev/null 2>&1 &
  reader=$!
  wait $server
  code=$?
  kill -9 $reader 2>/dev/null
  wait $reader 2>/dev/null
  [ -e "$work/restart" ] || break
  rm "$work/restart"
done
rm -rf "$work"
exit $code
`

/** Windows has neither that shell nor signals: pg_ctl starts the server (also for an administrator) and stops it. */
const nodeScript = `
const { execFileSync } = require("node:child_process")
const fs = require("node:fs")
const path = require("node:path")
const [tmp, template, dataDir, bin, ...settings] = process.argv.slice(1)
process.umask(0o077)
const work = fs.mkdtempSync(path.join(tmp, "shigoto-pg-"))
console.log("work " + work)
const log = path.join(work, "server.log")
let code = 1
const finish = () => {
  fs.rmSync(work, { recursive: true, force: true, maxRetries: 20 })
  process.exit(code)
}
const data = template === "" ? dataDir : path.join(work, "data")
const ctl = (...args) => execFileSync(path.join(bin, "pg_ctl"), [...args, "-D", data, "-w"], { stdio: "ignore" })
const options = ["-o", settings.map((setting) => '-c "' + setting + '"').join(" "), "-l", log]
const announce = () => console.log("pid " + fs.readFileSync(path.join(data, "postmaster.pid"), "utf8").split("\\n")[0])
try {
  if (template !== "") fs.cpSync(template, data, { recursive: true })
  ctl("start", ...options)
  announce()
  code = 0
} catch (error) {
  process.stderr.write(fs.existsSync(log) ? fs.readFileSync(log) : String(error))
  finish()
}
process.stdin.on("data", (line) => {
  ctl("restart", "-m", String(line).includes("QUIT") ? "immediate" : "fast", ...options)
  announce()
})
process.stdin.on("close", () => {
  try {
    ctl("stop", "-m", "fast")
  } finally {
    finish()
  }
})
`
