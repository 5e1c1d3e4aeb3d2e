define i32 @above(ptr noalias %p0, ptr noalias %p1, i32 %thread, i32 %threads, ptr %sync) nounwind {
entry:
  br label %body0
body0:
  %v1 = load <16 x float>, ptr %p0, align 4
  %v2 = fmul <16 x float> %v1, splat (float 0x4000000000000000)
  %v3 = fadd <16 x float> %v2, splat (float 0x3FF0000000000000)
  %v4 = fcmp olt <16 x float> splat (float 0x0000000000000000), %v3
  %v5 = select <16 x i1> %v4, <16 x float> %v3, <16 x float> splat (float 0x0000000000000000)
  store <16 x float> %v5, ptr %p1, align 4
  %v6 = getelementptr i8, ptr %p0, i64 64
  %v7 = load <4 x float>, ptr %v6, align 4
  %v8 = fmul <4 x float> %v7, splat (float 0x4000000000000000)
  %v9 = fadd <4 x float> %v8, splat (float 0x3FF0000000000000)
  %v10 = fcmp olt <4 x float> splat (float 0x0000000000000000), %v9
  %v11 = select <4 x i1> %v10, <4 x float> %v9, <4 x float> splat (float 0x0000000000000000)
  %v12 = getelementptr i8, ptr %p1, i64 64
  store <4 x float> %v11, ptr %v12, align 4
  ret i32 0
}
