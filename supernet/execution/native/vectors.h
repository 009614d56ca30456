// Vectors of N floats, for one instruction set (instructions.h).

namespace INSTRUCTIONS {

template <int N> struct Vector {
  typedef float type __attribute__((vector_size(N * sizeof(float)), aligned(4), may_alias));
};
template <> struct Vector<1> { typedef float type; };

template <int N> INLINE typename Vector<N>::type load(const float *at) { return *(const typename Vector<N>::type *)at; }
template <int N> INLINE void store(float *at, typename Vector<N>::type value) { *(typename Vector<N>::type *)at = value; }

}  // namespace INSTRUCTIONS
