-- wrk's script: posts the files that FILES names, in turn, as raw bodies or (FORM=1) as a form's field "image", of
-- which one request has BUNDLE. With KEY, each request has this key.
-- Prints one line "RESULT ..." at the end: latencies in microseconds, and answers by status.
local bodies, position = {}, 0
local boundary = "----oneshot-bench"

-- TARGETS, addresses like "127.0.0.1:8001 127.0.0.1:8002": one for each thread in turn, instead of that of the command.
local targets, threads = {}, 0
for host, port in (os.getenv("TARGETS") or ""):gmatch("([^ :]+):(%d+)") do
  targets[#targets + 1] = { host, port }
end

function setup(thread)
  if #targets > 0 then
    local target = targets[threads % #targets + 1]
    thread.addr = wrk.lookup(target[1], target[2])[1]
    threads = threads + 1
  end
end

function init(_)
  local form, bundle, parts = os.getenv("FORM") == "1", tonumber(os.getenv("BUNDLE") or "1"), {}
  for line in io.lines(os.getenv("FILES")) do
    local file = io.open(line, "rb")
    local data = file:read("*a")
    file:close()
    if form then
      parts[#parts + 1] = "--" .. boundary .. "\r\nContent-Disposition: form-data; name=\"image\"; filename=\"image\"\r\n"
        .. "Content-Type: application/octet-stream\r\n\r\n" .. data .. "\r\n"
      if #parts == bundle then
        bodies[#bodies + 1] = table.concat(parts) .. "--" .. boundary .. "--\r\n"
        parts = {}
      end
    else
      bodies[#bodies + 1] = data
    end
  end
  wrk.method = "POST"
  local key = os.getenv("KEY") or ""
  if key ~= "" then
    wrk.headers["Authorization"] = "Bearer " .. key
  end
  wrk.headers["Content-Type"] = form and ("multipart/form-data; boundary=" .. boundary) or "application/octet-stream"
end

function request()
  position = position % #bodies + 1
  return wrk.format(nil, nil, nil, bodies[position])
end

function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format("RESULT requests=%d microseconds=%d p50=%d p90=%d p99=%d max=%d status=%d socket=%d timeout=%d\n",
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
    latency.max, errors.status, errors.connect + errors.read + errors.write, errors.timeout))
end
