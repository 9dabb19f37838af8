-- wrk: closed-loop puts (or gets) of random keys among KEYS, through one of three doors.
--   DOOR=etcd   POST /v3/kv/put and /v3/kv/range, JSON with base64 (etcd's gateway)
--   DOOR=ours   PUT and GET /v1/kv/{key}, the value as the body
--   DOOR=plain  POST /v1/kv {"key", "value"}: a put without anything else (an upper bound, if there is one to compare with)
-- VALUE bytes a value; BATCH > 1: so many puts in one atomic request (etcd's Txn, our POST /v1/kv). Prints one line of JSON.

local door = os.getenv("DOOR") or "ours"
local action = os.getenv("ACTION") or "put"
local value = string.rep("v", tonumber(os.getenv("VALUE") or "256"))
local keys = tonumber(os.getenv("KEYS") or "10000")
local batch = tonumber(os.getenv("BATCH") or "1")
local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  local out = {}
  for at = 1, #text, 3 do
    local a, b, c = text:byte(at, at + 2)
    local number = a * 65536 + (b or 0) * 256 + (c or 0)
    for place = 3, 0, -1 do
      local digit = math.floor(number / 64 ^ place) % 64
      out[#out + 1] = alphabet:sub(digit + 1, digit + 1)
    end
    if not b then out[#out - 1] = "=" end
    if not c then out[#out] = "=" end
  end
  return table.concat(out)
end

local value64 = base64(value)
local json = { ["Content-Type"] = "application/json" }
local octets = { ["Content-Type"] = "application/octet-stream" }

local function name(number)
  return string.format("key%08d", number)
end

local function one(number)
  local key = name(number)
  if door == "etcd" then
    if action == "get" then return wrk.format("POST", "/v3/kv/range", json, '{"key":"' .. base64(key) .. '"}') end
    return wrk.format("POST", "/v3/kv/put", json, '{"key":"' .. base64(key) .. '","value":"' .. value64 .. '"}')
  elseif door == "plain" then
    return wrk.format("POST", "/v1/kv", json, '{"key":"' .. key .. '","value":"' .. value .. '"}')
  end
  if action == "get" then return wrk.format("GET", "/v1/kv/" .. key) end
  return wrk.format("PUT", "/v1/kv/" .. key, octets, value)
end

local function many(first)
  local parts = {}
  for offset = 0, batch - 1 do
    local key = name((first + offset) % keys)
    if door == "etcd" then
      parts[#parts + 1] = '{"requestPut":{"key":"' .. base64(key) .. '","value":"' .. value64 .. '"}}'
    else
      parts[#parts + 1] = '{"op":"put","key":"' .. key .. '","value_base64":"' .. value64 .. '"}'
    end
  end
  local all = table.concat(parts, ",")
  if door == "etcd" then return wrk.format("POST", "/v3/kv/txn", json, '{"success":[' .. all .. ']}') end
  return wrk.format("POST", "/v1/kv", json, '{"ops":[' .. all .. ']}')
end

local requests = {}

init = function()
  math.randomseed(os.time())
  local count = batch > 1 and 64 or keys
  for number = 1, count do
    requests[number] = batch > 1 and many(number * batch) or one(number)
  end
end

request = function()
  return requests[math.random(#requests)]
end

done = function(summary, latency)
  local e = summary.errors
  local bad = e.status + e.connect + e.read + e.write + e.timeout
  io.write(string.format('{"per_s":%.1f,"p50_us":%d,"p99_us":%d,"requests":%d,"bad":%d}\n',
    summary.requests / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99), summary.requests, bad))
end
