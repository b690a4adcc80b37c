-- Walks through the calls of a file, one a line: wrk -s walk.lua URL -- FILE once|again
-- A line is a target, or target, headers and body between tabs (calls.py).
-- `once`: when the file is used up the run ends early. run.py counts requests per processor second, so
-- a shorter run does no harm, and no callback is sent twice by accident.

local lines, again, tail

function init(args)
  lines = assert(io.open(args[1], "r"))
  lines:setvbuf("full", 1048576)
  again = args[2] == "again"
  tail = " HTTP/1.1\r\nHost: " .. wrk.host .. ":" .. wrk.port .. "\r\n"
end

function request()
  local line = lines:read("*l")
  if not line then
    if not again then
      wrk.thread:stop()
    end
    lines:seek("set", 0)
    line = lines:read("*l")
  end
  local first = line:find("\t", 1, true)
  if not first then
    return "GET " .. line .. tail .. "\r\n"
  end
  local second = line:find("\t", first + 1, true)
  local body = line:sub(second + 1)
  local headers = line:sub(first + 1, second - 1):gsub("\31", "\r\n")
  return "POST " .. line:sub(1, first - 1) .. tail .. headers .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
end
