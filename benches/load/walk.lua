-- Walks through the targets of a file, one a line: wrk -s walk.lua URL -- FILE once|again
-- `once`: when the file is used up the run ends early. run.py counts requests per processor second, so
-- a shorter run does no harm, and no callback is sent twice by accident.

local lines, again, tail

function init(args)
  lines = assert(io.open(args[1], "r"))
  lines:setvbuf("full", 1048576)
  again = args[2] == "again"
  tail = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n\r\n"
end

function request()
  local target = lines:read("*l")
  if not target then
    if not again then
      wrk.thread:stop()
    end
    lines:seek("set", 0)
    target = lines:read("*l")
  end
  return "GET " .. target .. tail
end
