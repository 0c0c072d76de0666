"""Pure maths on tensors: levels of noise, parameterizations, noise streams, schedules, samplers, guidance."""
