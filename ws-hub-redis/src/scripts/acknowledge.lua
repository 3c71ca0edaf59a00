-- Messages of logins have arrived.
-- KEYS: user and log, each. ARGV, each: login, start, the last message.
-- Answers, each: D (done), S (starts at), G (gone) or X (of lost data); and the start, or the frame.
if not is_alive(here) then return { 'LEASE' } end
allow_oom()
local out, at = {}, ARG
for i = KEY, #KEYS, 2 do
  local number, start, upto = tonumber(ARGV[at]), tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])
  at = at + 3
  local user = load(KEYS[i])
  local login = find(user, number)
  local kind, value = 'D', ''
  if not login then
    kind, value = 'G', frame_of(user, number)
    if value == '' and is_of_lost_data(user, number) then kind = 'X' end
  elseif is_ambiguous(user, number, upto) then
    kind = 'X'
  elseif login.start ~= start then
    kind, value = 'S', login.start
  elseif min(upto, user.top) > login.confirmed then
    login.confirmed = min(upto, user.top)
    put(user, login)
    local cursor = user.cursor
    advance(user)
    if user.cursor > cursor then
      delivered(user, KEYS[i + 1])
      save(user)
    end
  end
  out[#out + 1] = kind
  out[#out + 1] = value
end
return out
