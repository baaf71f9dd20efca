program self_test
  implicit none
  character(len=1), dimension(2) :: parts = ['O', 'K']
  print '(2A)', parts
end program self_test
