-- Return the documents there are, each behind its place in ARGV: {place, document, place, document, ...}.
local found = {}
for place, key in ipairs(ARGV) do
  local document = redis.pcall('GET', KEYS[1] .. key)
  if type(document) == 'string' then
    found[#found + 1] = place
    found[#found + 1] = document
  elseif document then
    found[#found + 1] = place
    found[#found + 1] = ''
  end
end
return found
